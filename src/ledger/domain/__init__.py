"""The rules, pure: what may be asked, what follows from what happened, who starts where and why."""
