"""Building spoken benchmarks like SPIRAL: facts and questions, speech, whole recordings."""
