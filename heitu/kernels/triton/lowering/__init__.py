"""From TTIR to C: what is computed where (analysis), and its text (emission)."""
