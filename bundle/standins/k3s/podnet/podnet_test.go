package podnet

import (
	"strings"
	"testing"
)

func TestPodsGetTheNodesSubnetsWithoutHostBits(t *testing.T) {
	chain, err := Chain("FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.0.1/24\nFLANNEL_IPV6_SUBNET=fd42:77:42::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"subnet": "10.42.0.0/24"`, `"subnet": "fd42:77:42::/64"`, `"mtu": 1450`, `"dst": "::/0"`} {
		if !strings.Contains(string(chain), part) {
			t.Errorf("no %s in %s", part, chain)
		}
	}
	if chain, err := Chain("FLANNEL_MTU=1450\n"); err == nil {
		t.Errorf("no subnet, and still %s", chain)
	}
}
