"""`MessageAPI`: users of a workspace and the messages between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rfenvs.envs.bfcl_apis.base import SimulatedApi, hidden, need, tool


def _inbox() -> list[dict[str, str]]:
    return [
        {"USR002": "My name is Alice. I want to connect."},
        {"USR003": "Could you upload the file?"},
        {"USR004": "Could you upload the file?"},
    ]


def _users() -> dict[str, str]:
    return {"Alice": "USR001", "Bob": "USR002", "Catherine": "USR003", "Daniel": "USR004"}


@dataclass(kw_only=True)
class MessageAPI(SimulatedApi):
    """Messages are kept as `{receiver: text}`, the latest last."""

    generated_ids: set[int] = field(default_factory=set)
    user_count: int = 4
    user_map: dict[str, str] = field(default_factory=_users)
    inbox: list[dict[str, str]] = field(default_factory=_inbox)
    message_count: int = 3
    current_user: str | None = None
    random_seed: int = hidden(200191)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.generated_ids = set(self.generated_ids)

    def _messages(self) -> list[tuple[str, str]]:
        need(self.current_user, "No user is currently logged in.")
        return [list(message.items())[0] for message in self.inbox]  # noqa: RUF015  (an IndexError is refused)

    @tool
    def list_users(self) -> dict[str, Any]:
        """Names of all users of the workspace."""
        return {"user_list": list(self.user_map)}

    @tool
    def get_user_id(self, user: str) -> dict[str, Any]:
        """ID of the user with a name."""
        need(user in self.user_map, f"User '{user}' not found in the workspace.")
        return {"user_id": self.user_map[user]}

    @tool
    def message_login(self, user_id: str) -> dict[str, Any]:
        """Log a user in by ID."""
        if user_id not in self.user_map.values():
            return {"login_status": False, "message": f"User ID '{user_id}' not found."}
        self.current_user = user_id
        return {"login_status": True, "message": f"User '{user_id}' logged in successfully."}

    @tool
    def message_get_login_status(self) -> dict[str, Any]:
        """Whether a user is logged in to the workspace."""
        return {"login_status": bool(self.current_user)}

    @tool
    def send_message(self, receiver_id: str, message: str) -> dict[str, Any]:
        """Send a message to the user with an ID."""
        need(self.current_user, "No user is currently logged in.")
        need(receiver_id in self.user_map.values(), f"Receiver ID '{receiver_id}' not found.")
        while (number := self._random.randint(10000, 99999)) in self.generated_ids:
            pass
        self.generated_ids.add(number)
        self.inbox.append({receiver_id: message})
        self.message_count += 1
        return {
            "sent_status": True,
            "message_id": {"new_id": number},
            "message": f"Message sent to '{receiver_id}' successfully.",
        }

    @tool
    def delete_message(self, receiver_id: str) -> dict[str, Any]:
        """Delete the latest message to the user with an ID."""
        receivers = [receiver for receiver, _ in self._messages()]
        need(receiver_id in receivers, f"Receiver ID {receiver_id} not found.")
        # The first of all equal messages goes, so that what remains is in the order of the public simulator.
        latest = self.inbox[len(receivers) - 1 - receivers[::-1].index(receiver_id)]
        self.inbox.remove(latest)
        return {
            "deleted_status": True,
            "receiver_id": receiver_id,
            "message": f"Receiver {receiver_id}'s latest message deleted successfully.",
        }

    @tool
    def view_messages_sent(self) -> dict[str, Any]:
        """All messages sent, by receiver."""
        sent: dict[str, list[str]] = {}
        for receiver, text in self._messages():
            sent.setdefault(receiver, []).append(text)
        return {"messages": sent}

    @tool
    def add_contact(self, user_name: str) -> dict[str, Any]:
        """Add a user to the workspace; the answer holds the new ID."""
        need(user_name not in self.user_map, f"User name '{user_name}' already exists.")
        self.user_count += 1
        user_id = f"USR{self.user_count:03d}"
        need(user_id not in self.user_map.values(), f"User ID '{user_id}' already exists.")
        self.user_map[user_name] = user_id
        return {"added_status": True, "user_id": user_id, "message": f"Contact '{user_name}' added successfully."}

    @tool
    def search_messages(self, keyword: str) -> dict[str, Any]:
        """Messages that contain a keyword, in any case."""
        found = [(receiver, text) for receiver, text in self._messages() if keyword.lower() in text.lower()]
        return {"results": [{"receiver_id": receiver, "message": text} for receiver, text in found]}

    @tool
    def get_message_stats(self) -> dict[str, Any]:
        """Numbers of messages and of contacts."""
        receivers = [receiver for receiver, _ in self._messages()]
        return {"stats": {"received_count": len(receivers), "total_contacts": len(set(receivers))}}
