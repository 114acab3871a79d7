"""The claims, one file for each section of the answer: Cross Validated question 441750, "Why can't this autoencoder
reach zero loss?". Each test describes an experiment, trains it, and judges the result.
"""
