//go:build !linux && !darwin

package sqlite

// freeBytes is not known here: there is no reserve.
func freeBytes(string) (uint64, error) { return 0, nil }
