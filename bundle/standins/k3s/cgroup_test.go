package main

import (
	"slices"
	"testing"
)

func TestHierarchiesAreThoseOfTheFirstVersion(t *testing.T) {
	for name, test := range map[string]struct {
		membership string
		names      []string
	}{
		"apart":  {"9:name=systemd:/init.scope\n2:cpuacct:/\n1:cpu:/\n0::/init.scope\n", []string{"name=systemd", "cpuacct", "cpu"}},
		"joined": {"4:cpu,cpuacct:/\n", []string{"cpu,cpuacct"}},
		"v2":     {"0::/init.scope\n", nil},
	} {
		if names := hierarchiesOf(test.membership); !slices.Equal(names, test.names) {
			t.Errorf("%s: %v", name, names)
		}
	}
}
