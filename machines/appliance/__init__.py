"""Machines of other programs: OVF and OVA, VirtualBox's .vbox, VMware's .vmx."""
