"""Around asv: the zero-install environment, the selection, machine facts, the site, the gate, the closing table."""
