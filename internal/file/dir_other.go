//go:build !unix

package file

// SyncDir does nothing: a rename is durable with its file here.
func SyncDir(string) error { return nil }
