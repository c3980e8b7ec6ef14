"""The mock world: users with tasks on the agent's side, notifications on the user's."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from rfenvs.envs.tau2.toolkit import Record, Schema, ToolError, Toolkit, World, assertion, setup, tool


class TaskRecord(Record):
    """A task that somebody has to do."""

    model_config = ConfigDict(extra="ignore")

    task_id: str
    title: str
    description: str | None = None
    status: Literal["pending", "completed"]


class User(Record):
    """A user, with the ids of the tasks."""

    model_config = ConfigDict(extra="ignore")

    user_id: str
    name: str
    tasks: list[str]


class MockDb(Record):
    """Tasks and users by id."""

    tasks: dict[str, TaskRecord]
    users: dict[str, User]


class Notification(Record):
    """An entry of the user's inbox."""

    notification_id: str
    message: str
    status: Literal["unread", "read"] = "unread"
    task_id: str | None = None


class MockUserDb(Record):
    """Notifications by id."""

    notifications: dict[str, Notification] = Field(default_factory=dict)


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


class MockAgent(Toolkit[MockDb]):
    """The task list and the tools on it."""

    @tool(
        "write",
        "Make a task for a user; it is pending.",
        user_id=_text("Id of the user."),
        title=_text("Title of the task."),
        description={"type": ["string", "null"], "default": None, "description": "More about the task."},
    )
    def create_task(self, user_id: str, title: str, description: str | None = None) -> TaskRecord:
        """Make a task, numbered on from those there are."""
        task_id = f"task_{len(self.db.tasks) + 1}"
        self._user(user_id).tasks.append(task_id)
        task = TaskRecord(task_id=task_id, title=title, description=description, status="pending")
        self.db.tasks[task_id] = task
        return task

    @tool("read", "List all users.")
    def get_users(self) -> list[User]:
        """Every user."""
        return list(self.db.users.values())

    @tool(
        "write",
        "Set the status of a task.",
        task_id=_text("Id of the task."),
        status={"type": "string", "enum": ["pending", "completed"], "description": "The new status."},
    )
    def update_task_status(self, task_id: str, status: Literal["pending", "completed"]) -> TaskRecord:
        """Set the status of a task."""
        task = self._task(task_id)
        task.status = status
        return task

    @tool("generic", "Hand the matter to a human agent.", summary=_text("What the matter is."))
    def transfer_to_human_agents(self, summary: str) -> str:
        """Nothing changes; the call itself is what counts."""
        return "Transfer successful"

    @assertion("how many tasks the user has")
    def assert_number_of_tasks(self, user_id: str, expected_number: int) -> bool:
        """Whether the user has that many tasks."""
        return len(self._user(user_id).tasks) == expected_number

    @assertion("the status of the task")
    def assert_task_status(self, task_id: str, expected_status: str) -> bool:
        """Whether the task has that status."""
        return self._task(task_id).status == expected_status

    def _user(self, user_id: str) -> User:
        if user_id not in self.db.users:
            raise ToolError(f"User {user_id} not found")
        return self.db.users[user_id]

    def _task(self, task_id: str) -> TaskRecord:
        if task_id not in self.db.tasks:
            raise ToolError(f"Task {task_id} not found")
        return self.db.tasks[task_id]


class MockUser(Toolkit[MockUserDb]):
    """The user's inbox."""

    @tool("read", "List the user's notifications.")
    def check_notifications(self) -> list[Notification]:
        """Every notification."""
        return list(self.db.notifications.values())

    @tool("write", "Mark a notification as read.", notification_id=_text("Id of the notification."))
    def dismiss_notification(self, notification_id: str) -> str:
        """Mark a notification as read."""
        self._notification(notification_id).status = "read"
        return f"Notification {notification_id} dismissed"

    @setup
    def add_notification(self, notification_id: str, message: str, task_id: str | None = None) -> None:
        """Put an unread notification into the inbox."""
        entry = Notification(notification_id=notification_id, message=message, task_id=task_id)
        self.db.notifications[notification_id] = entry

    @assertion("whether the notification is read")
    def assert_notification_status(self, notification_id: str, expected_status: str) -> bool:
        """Whether the notification has that status."""
        return self._notification(notification_id).status == expected_status

    def _notification(self, notification_id: str) -> Notification:
        if notification_id not in self.db.notifications:
            raise ToolError(f"Notification {notification_id} not found")
        return self.db.notifications[notification_id]


class MockWorld(World):
    """A task list and an inbox; neither side shows on the other."""

    def __init__(self, db: MockDb, inbox: MockUserDb) -> None:
        super().__init__(MockAgent(db), MockUser(inbox))
