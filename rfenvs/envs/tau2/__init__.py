"""tau2-bench's telecom and mock worlds: databases, tools, checks and tasks, without a third-party dependency.

| file | holds |
|---|---|
| `toolkit.py` | how a method becomes a tool, a set-up step or an assertion; how a call is checked, run and answered |
| `telecom_records.py`, `telecom_agent.py` | the company's database, and the agent's tools on it |
| `phone_records.py`, `handset.py` | the customer's phone and surroundings, and how its service follows from them |
| `phone_tools.py`, `phone.py` | what can be read and switched on it; how it is broken, and what is checked |
| `telecom.py` | both sides together |
| `mock.py` | the small world of tasks and notifications |
| `rows.py`, `evaluate.py`, `explain.py` | a task's row, what an end state is worth, and why it is worth no more |
| `data.py` | where the rows and databases come from |
"""
