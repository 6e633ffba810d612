"""What tests share: clients, events, certificates, doubles, and a reader of frames in plain Python."""
