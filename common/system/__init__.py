"""Files written whole or not at all, locks between processes, and a user's mistakes told in one sentence."""
