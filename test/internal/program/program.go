// Package program builds the real programs and runs them as processes of a
// test: started, watched, stopped and killed by their own process id. What a
// program is told to do, and what its answers mean, belongs to the test.
package program

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/test/internal/scratch"
)

const module = "github.com/countersign-dev/countersign"

// built are the programs of this test process.
var built struct {
	sync.Mutex
	dir    string
	remove func()
	paths  map[string]string
}

// Build compiles cmd/<name> as `go build` does, once in a test process, and
// returns the path of the program. Run removes it.
func Build(t testing.TB, name string) string {
	t.Helper()
	return build(t, name, name)
}

// BuildWith is Build with files of cmd/<name> replaced: by name, with what stands in them
// instead. One program of each name is built so.
func BuildWith(t testing.TB, name string, files map[string]string) string {
	t.Helper()
	at, err := exec.Command("go", "list", "-f", "{{.Dir}}", module+"/cmd/"+name).Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for file, text := range files {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(strings.TrimSpace(string(at)), file)] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return build(t, name, name+"-replaced", "-overlay", path)
}

// build compiles cmd/<name> to a file, unless it was.
func build(t testing.TB, name, to string, flags ...string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if path := built.paths[to]; path != "" {
		return path
	}
	if built.dir == "" {
		dir, remove, err := scratch.Dir("programs")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.remove, built.paths = dir, remove, map[string]string{}
	}
	path := filepath.Join(built.dir, to)
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", path}, flags, []string{module + "/cmd/" + name})...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, said)
	}
	built.paths[to] = path
	return path
}

// Run is for TestMain: it runs the tests and removes what was built.
func Run(m interface{ Run() int }) (code int) {
	defer func() {
		built.Lock()
		defer built.Unlock()
		if built.remove != nil {
			built.remove()
		}
	}()
	return m.Run()
}

// Process is a program that runs.
type Process struct {
	cmd    *exec.Cmd
	out    Output
	exited chan struct{} // closed once it is gone and waited for
	err    error         // of Wait; read after exited
}

// Output is what a process said so far. It is safe for many goroutines.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String is all of it.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Start runs a command whose output is kept. It ends with this process, however
// that ends, on systems that can see to it.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, exited: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.out
	}
	cmd.WaitDelay = 5 * time.Second
	if err := start(cmd, func(err error) {
		p.err = err
		close(p.exited)
	}); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	return p, nil
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Said is what it wrote to standard output and error.
func (p *Process) Said() string { return p.out.String() }

// Exited is closed when it is gone.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Gone reports whether it has ended.
func (p *Process) Gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// Kill ends it as a power cut would (SIGKILL) and waits until it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// Stop asks it to end, and kills it if it has not within the time. The error is
// that of its exit.
func (p *Process) Stop(within time.Duration) error {
	if p.Gone() {
		return p.err
	}
	p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.exited:
		return p.err
	case <-time.After(within):
		p.Kill()
		return fmt.Errorf("%s did not stop within %s", filepath.Base(p.cmd.Path), within)
	}
}

// Result is how a command that ran to its end went.
type Result struct {
	Stdout, Stderr string
	Exit           int
}

// Exec runs a command to its end; only not being able to run it is an error.
func Exec(ctx context.Context, env []string, path string, args ...string) (Result, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	r := Result{Stdout: out.String(), Stderr: errs.String(), Exit: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, err
	}
	return r, ctx.Err()
}

// Environment is this process's, without the variables whose names begin with
// one of the prefixes, and with more.
func Environment(without []string, more ...string) (env []string) {
next:
	for _, v := range os.Environ() {
		for _, prefix := range without {
			if strings.HasPrefix(v, prefix) {
				continue next
			}
		}
		env = append(env, v)
	}
	return append(env, more...)
}
