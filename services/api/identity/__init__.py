"""Who somebody is: one place for accounts, sessions, tokens of programs, and what a provider says."""
