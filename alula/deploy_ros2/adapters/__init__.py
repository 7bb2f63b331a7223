"""One file a robot interface: messages to samples by name, commands to messages; frames and orders change only here."""
