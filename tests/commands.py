"""The command line as the tests look through it."""

import click


def commands_of(group):
    """Return the commands of a group by name, with those that are imported when they are asked for."""
    context = click.Context(group)
    return {name: group.get_command(context, name) for name in group.list_commands(context)}
