"""What was said in a recording, and when: recognised, brought, kept, written."""
