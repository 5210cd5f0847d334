"""Views: how calls, code and values get to engines, and the flags that say how."""
