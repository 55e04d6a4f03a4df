"""Linear attention on sequences whose entries are linear functions of the entries before them."""
