"""Fixtures live one family a file; they are listed here."""

pytest_plugins = [
    "tests.fix_stack",
    "tests.fix_doors",
    "tests.fix_browser",
    "tests.fix_api",
    "tests.fix_keycloak",
    "tests.fix_processor",
    "tests.fix_faults",
    "tests.fix_consumers",
    "tests.fix_audit",
]
