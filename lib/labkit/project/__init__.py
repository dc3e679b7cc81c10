"""A user's project: `labkit init` renders it from the template, with labkit as a dependency.

`create` makes the repository, `template` renders, `wheel` packs labkit, `package_name` has the rules for names.
"""
