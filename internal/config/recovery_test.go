package config

import (
	"strings"
	"testing"
	"time"
)

// TestRecovery: times are written as such, in the file and in the environment, and
// none makes recovering easier than signing in.
func TestRecovery(t *testing.T) {
	const rest = "issuer: https://id.example.com\nlisten: {address: '0.0.0.0:8443'}\ndatabase: {sqlite: /x}\ndata_dir: /d\n"
	c, err := Parse([]byte(rest+"recovery: {wait: 2h, probation: 48h}\n"), []string{"COUNTERSIGN_RECOVERY_WAIT=90m"})
	if err != nil || c.Recovery.Wait != 90*time.Minute || c.Recovery.Probation != 48*time.Hour {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err := Parse([]byte(rest), nil); err != nil || c.Recovery != (Recovery{}) {
		t.Errorf("left out: %+v, %v", c, err)
	}
	for _, bad := range []string{"wait: 1m", "wait: -1h", "wait: 800h", "probation: 1h", "probation: 3000h", "wait: soon", "wait: 5"} {
		_, err := Parse([]byte(rest+"recovery:\n  "+bad+"\n"), nil)
		key, _, _ := strings.Cut(bad, ":")
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := Parse([]byte(rest), []string{"COUNTERSIGN_RECOVERY_WAIT=soon"}); err == nil || !strings.Contains(err.Error(), "COUNTERSIGN_RECOVERY_WAIT") {
		t.Errorf("in the environment: %v", err)
	}
}
