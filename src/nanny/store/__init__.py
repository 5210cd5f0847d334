"""A host's store of objects: where they are, how much room they take, who gets what when.

`books` decides; `thread` does what it says, with `files` for what takes long and `mapped` to see who uses what.
"""
