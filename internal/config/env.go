package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// prefix begins every environment variable of the configuration.
const prefix = "COUNTERSIGN_"

// ignored are variables with the prefix that configure other programs.
var ignored = []string{"COUNTERSIGN_TOKEN", "COUNTERSIGN_PROFILE", "COUNTERSIGN_BROWSER", "COUNTERSIGN_INTERACTIVE", "COUNTERSIGN_CONFIG"}

// override sets members from the environment: COUNTERSIGN_LISTEN_ADDRESS is
// listen.address. A variable that names no member is a fault: a typing error
// must not be silent.
func override(c *Config, env []string) []error {
	fields := map[string]reflect.Value{}
	collect(reflect.ValueOf(c).Elem(), prefix, fields)
	var faults []error
	slices.Sort(env)
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, prefix) || slices.Contains(ignored, name) || strings.HasPrefix(name, prefix+"TEST_") || strings.HasPrefix(name, prefix+"REQUIRE_") {
			continue
		}
		f, ok := fields[name]
		if !ok {
			faults = append(faults, fmt.Errorf("%s: the configuration has no such key", name))
			continue
		}
		if err := set(f, value); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
		}
	}
	return faults
}

func collect(v reflect.Value, name string, out map[string]reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		full := name + strings.ToUpper(key)
		if v.Field(i).Kind() == reflect.Struct {
			collect(v.Field(i), full+"_", out)
			continue
		}
		out[full] = v.Field(i)
	}
}

func set(f reflect.Value, value string) error {
	switch f.Kind() {
	case reflect.String:
		f.SetString(value)
	case reflect.Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("true or false, not %q", value)
		}
		f.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("a number, not %q", value)
		}
		f.SetInt(int64(n))
	case reflect.Int64:
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("a time such as 24h, not %q", value)
		}
		f.SetInt(int64(d))
	case reflect.Slice:
		var list []string
		for _, s := range strings.Split(value, ",") {
			if s = strings.TrimSpace(s); s != "" {
				list = append(list, s)
			}
		}
		f.Set(reflect.ValueOf(list))
	}
	return nil
}
