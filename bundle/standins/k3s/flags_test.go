package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the collection's step passes.
var asTheStepCalls = []string{
	"--node-ip", "10.77.0.5,fd42:77:1::5",
	"--write-kubeconfig-mode", "0600",
	"--disable-cloud-controller",
	"--kubelet-arg=feature-gates=KubeletInUserNamespace=true",
	"--cluster-cidr=10.42.0.0/16,fd42:77:42::/56",
	"--service-cidr=10.43.0.0/16,fd42:77:43::/112",
	"--cluster-dns=10.43.0.10,fd42:77:43::a",
	"--flannel-ipv6-masq",
	"--disable-network-policy",
	"--disable=traefik", "--disable", "servicelb",
	"--tls-san=lab.example", "--tls-san", "192.0.2.7",
}

func noEnvironment(string) (string, bool) { return "", false }

func TestTheStepsFlagsAreTaken(t *testing.T) {
	parsed, err := parseServer(asTheStepCalls, noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	for name, taken := range map[string]bool{
		"node-ip":               joined(parsed.nodeIPs) == "10.77.0.5,fd42:77:1::5",
		"write-kubeconfig-mode": parsed.kubeconfigMode == 0o600,
		"kubelet-arg":           slices.Equal(parsed.kubeletArgs, []string{"--feature-gates=KubeletInUserNamespace=true"}),
		"cluster-cidr":          joined(parsed.clusterCIDRs) == "10.42.0.0/16,fd42:77:42::/56",
		"service-cidr":          joined(parsed.serviceCIDRs) == "10.43.0.0/16,fd42:77:43::/112",
		"cluster-dns":           slices.Equal(parsed.clusterDNS, []netip.Addr{netip.MustParseAddr("10.43.0.10"), netip.MustParseAddr("fd42:77:43::a")}),
		"disable":               slices.Equal(parsed.disabled, []string{"traefik", "servicelb"}),
		"tls-san":               slices.Equal(parsed.tlsSANs, []string{"lab.example", "192.0.2.7"}),
	} {
		if !taken {
			t.Errorf("--%s: %+v", name, parsed)
		}
	}
}

func TestWhatWouldBeWithoutEffectIsRefused(t *testing.T) {
	without := func(flags ...string) []string {
		return slices.DeleteFunc(slices.Clone(asTheStepCalls), func(argument string) bool { return slices.Contains(flags, argument) })
	}
	with := func(flags ...string) []string { return append(slices.Clone(asTheStepCalls), flags...) }
	for name, test := range map[string]struct {
		arguments []string
		refusal   string
	}{
		"unknown flag":              {with("--datastore-endpoint=x"), "--datastore-endpoint: the stand-in for k3s does not know"},
		"not a flag":                {with("agent"), `"agent" is not a flag`},
		"value missing":             {with("--token"), "--token: a value is missing"},
		"switch with a value":       {with("--flannel-ipv6-masq=false"), `"false" is not a value`},
		"unknown component":         {with("--disable=coredn"), `no component "coredn"`},
		"bad address":               {with("--node-ip=10.77.0"), "--node-ip: "},
		"bad mode":                  {with("--write-kubeconfig-mode=0999"), "--write-kubeconfig-mode: "},
		"token file missing":        {with("--token-file=/nowhere/token"), "--token-file: open /nowhere/token"},
		"families differ":           {with("--cluster-dns=10.43.0.10"), "--cluster-dns has 1 entries, --cluster-cidr 2"},
		"no node address":           {without("--node-ip", "10.77.0.5,fd42:77:1::5"), "--node-ip is needed"},
		"cloud controller wanted":   {without("--disable-cloud-controller"), "has no cloud controller"},
		"network policies wanted":   {without("--disable-network-policy"), "has no network policy controller"},
		"Traefik wanted":            {without("--disable=traefik"), "has no Traefik"},
		"ServiceLB wanted":          {without("--disable", "servicelb"), "has no ServiceLB"},
		"IPv6 without masquerading": {without("--flannel-ipv6-masq"), "--flannel-ipv6-masq is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseServer(test.arguments, noEnvironment)
			if err == nil || !strings.Contains(err.Error(), test.refusal) {
				t.Errorf("%v does not say %q", err, test.refusal)
			}
		})
	}
}

func TestTokenComesFromFlagFileOrEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{"K3S_TOKEN": "from-environment"}
	for name, test := range map[string]struct {
		arguments []string
		token     string
	}{
		"environment": {nil, "from-environment"},
		"flag":        {[]string{"--token=from-flag"}, "from-flag"},
		"file":        {[]string{"--token-file", file}, "from-file"},
	} {
		t.Run(name, func(t *testing.T) {
			parsed, err := parseServer(append(slices.Clone(asTheStepCalls), test.arguments...), func(name string) (string, bool) {
				value, set := environment[name]
				return value, set
			})
			if err != nil || parsed.token != test.token {
				t.Errorf("%+v, %v", parsed, err)
			}
		})
	}
}
