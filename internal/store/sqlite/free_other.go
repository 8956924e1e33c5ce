//go:build !linux && !darwin

package sqlite

// freeBytes is not known here: there is no reserve.
// freeKnown says whether freeBytes can tell on this system.
const freeKnown = false

func freeBytes(string) (uint64, error) { return 0, nil }
