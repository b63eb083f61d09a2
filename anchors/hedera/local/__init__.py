"""The local consensus service: a stand-in for a Hedera network, with the network's real interface."""
