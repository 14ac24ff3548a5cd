"""Rewards on a CLIP: PickScore, Aesthetic, CLIPScore, HPSv2.1, and the tower that they share."""
