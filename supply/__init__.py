"""What Harkback stands on: the locks read, a bill of materials, and everybody's licences."""
