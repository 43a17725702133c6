"""Around asv: the zero-install environment, selection, machine facts, the site, the gate, a closing table."""
