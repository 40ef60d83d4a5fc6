"""What the pictures of a page show, and how they are drawn."""
