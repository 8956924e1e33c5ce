//go:build !unix

package scratch

import (
	"errors"
	"os"
)

// hold refuses where a file cannot be held beyond doubt, so nothing is swept.
func hold(*os.File) error { return errors.ErrUnsupported }
