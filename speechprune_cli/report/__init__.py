"""What people and programs get to see: timeline, facts, figures and files."""
