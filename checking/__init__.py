"""The check of a student's own lab, at home (``check.py``) and at the teacher's (``teaching/grade.py``)."""
