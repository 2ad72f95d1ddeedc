"""What a stack would create, what it costs a month and who may do what: computed from the program itself, offline."""
