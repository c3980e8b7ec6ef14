"""ALFWorld: household tasks in text, on a native engine that speaks to the letter like the official one."""
