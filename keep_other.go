//go:build !unix

package countersign

// guarded leaves it to the system who may write to a folder.
func guarded(string) error { return nil }
