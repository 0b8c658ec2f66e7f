/* Empty on purpose: BCC carries its own copy of what it needs of this. */
