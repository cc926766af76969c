package main

func pairs() []byte { return nil }
