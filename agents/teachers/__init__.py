"""Who teaches (`teacher`) and what the teacher may see (`contexts`)."""
