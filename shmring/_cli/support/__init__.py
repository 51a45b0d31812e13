"""What the commands share: how they read options, print, and look at rings."""
