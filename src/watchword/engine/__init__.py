"""
The use cases: the one place where the domain's decisions meet the store.

Each loads records, lets the domain decide, and commits; when the commit finds that a record has
moved it loads and decides again. Nothing is revealed before it is committed.
"""
