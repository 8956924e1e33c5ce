package main

import "time"

// now is the clock of everything that the command does. It stands alone in this file so
// that a test can build the command with another one.
func (a *app) now() time.Time { return time.Now() }
