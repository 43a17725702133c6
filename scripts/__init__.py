"""Around asv: the zero-install environment, machine facts, the site, the gate, the closing table."""
