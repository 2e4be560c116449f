"""PURE: decides what goes where. Nothing here opens a file, looks at a clock or talks to a server."""
