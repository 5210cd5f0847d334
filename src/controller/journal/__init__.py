"""What is written down so that another controller can go on, and how one does: the only part that touches the disk."""
