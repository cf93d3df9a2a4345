"""What a service is, once a peer is in: from an admitted connection to what answers it."""
