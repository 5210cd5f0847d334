"""Objects as those who make and use them see them: files that processes of one host map."""
