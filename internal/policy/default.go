package policy

import (
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/countersign-dev/countersign/policies"
)

// Builtin is the default policy set (policies/default). It is made once, when it
// is first asked for, is shared and never changes.
var Builtin = sync.OnceValue(func() *Set { return must(compile(Default(), false)) })

// must is for what the program carries in itself: a test makes it, strictly.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("policy: what is compiled in: %v", err))
	}
	return v
}

// Default is the source of the default policy set: the start of one's own.
func Default() Source {
	var src Source
	names, _ := fs.Glob(policies.Files, "default/*.cedar") // the pattern is right
	for _, name := range names {
		text, _ := fs.ReadFile(policies.Files, name) // it was just listed
		src.Files = append(src.Files, File{Name: strings.TrimPrefix(name, "default/"), Text: string(text)})
	}
	return src
}
