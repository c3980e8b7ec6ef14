"""`TicketAPI`: support tickets and who is logged in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rfenvs.envs.bfcl_apis.base import SimulatedApi, need, tool

_EDITABLE = ("title", "description", "status", "priority")


@dataclass(kw_only=True)
class TicketAPI(SimulatedApi):
    """Any user name with any password logs in; who is not logged in can still work on existing tickets.

    The documentation calls ticket IDs integers, but episodes hold tickets with texts as IDs: both are taken.
    """

    ticket_queue: list[dict[str, Any]] = field(default_factory=list)
    ticket_counter: int = 1
    current_user: str | None = None

    def _ticket(self, ticket_id: int | str) -> dict[str, Any]:
        for ticket in self.ticket_queue:
            if ticket["id"] == ticket_id:
                return ticket
        need(False, f"Ticket with ID {ticket_id} not found.")
        raise AssertionError

    @tool
    def create_ticket(self, title: str, description: str = "", priority: int = 1) -> dict[str, Any]:
        """Create a ticket of the user who is logged in. Priorities go from 1 to 5, the most urgent."""
        need(self.current_user, "User not authenticated. Please log in to create a ticket.")
        need(1 <= priority <= 5, "Invalid priority. Priority must be between 1 and 5.")
        ticket = {
            "id": self.ticket_counter,
            "title": title,
            "description": description,
            "status": "Open",
            "priority": priority,
            "created_by": self.current_user,
        }
        self.ticket_queue.append(ticket)
        self.ticket_counter += 1
        return ticket

    @tool
    def get_ticket(self, ticket_id: int | str) -> dict[str, Any]:
        """A ticket by its ID."""
        return self._ticket(ticket_id)

    @tool
    def close_ticket(self, ticket_id: int | str) -> dict[str, Any]:
        """Close a ticket."""
        ticket = self._ticket(ticket_id)
        need(ticket["status"] != "Closed", f"Ticket with ID {ticket_id} is already closed.")
        ticket["status"] = "Closed"
        return {"status": f"Ticket {ticket_id} has been closed successfully."}

    @tool
    def resolve_ticket(self, ticket_id: int | str, resolution: str) -> dict[str, Any]:
        """Resolve a ticket and note how."""
        ticket = self._ticket(ticket_id)
        need(ticket["status"] != "Resolved", f"Ticket with ID {ticket_id} is already resolved.")
        ticket["status"] = "Resolved"
        ticket["resolution"] = resolution
        return {"status": f"Ticket {ticket_id} has been resolved successfully."}

    @tool
    def edit_ticket(self, ticket_id: int | str, updates: dict[str, Any]) -> dict[str, Any]:
        """Change the title, description, status or priority of a ticket: `updates` maps names to new values."""
        ticket = self._ticket(ticket_id)
        invalid = [key for key in updates if key not in _EDITABLE]
        need(not invalid, f"Invalid fields for update: {', '.join(invalid)}")
        ticket.update({key: value for key, value in updates.items() if value is not None})
        return {"status": f"Ticket {ticket_id} has been updated successfully."}

    @tool
    def ticket_login(self, username: str, password: str) -> dict[str, Any]:
        """Log in to the ticket system."""
        if not (username and password):
            return {"success": False}
        self.current_user = username
        return {"success": True}

    @tool
    def ticket_get_login_status(self) -> dict[str, Any]:
        """Whether a user is logged in to the ticket system."""
        return {"login_status": bool(self.current_user)}

    @tool
    def logout(self) -> dict[str, Any]:
        """Log out of the ticket system."""
        was, self.current_user = self.current_user, None if self.current_user else self.current_user
        return {"success": bool(was)}

    @tool
    def get_user_tickets(self, status: str | None = None) -> list[dict[str, Any]]:
        """Tickets of the user who is logged in, all or those with a status."""
        if not self.current_user:
            return [{"error": "User not authenticated. Please log in to view tickets."}]
        mine = [ticket for ticket in self.ticket_queue if ticket.get("created_by") == self.current_user]
        return [t for t in mine if not status or t["status"].lower() == status.lower()]
