// Package podnet configures the network of a node's pods.
package podnet

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// Subnets is where flannel writes which of the cluster's addresses are this node's.
const Subnets = "/run/flannel/subnet.env"

// Chain is the chain of plugins that connects a pod, made from what flannel wrote about this node. It stands in for
// flannel's own plugin, which no registry carries.
func Chain(flannel string) ([]byte, error) {
	values := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(flannel)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		values[name] = value
	}
	var ranges [][]map[string]netip.Prefix
	var routes []map[string]string
	for _, family := range []struct{ subnet, everything string }{
		{"FLANNEL_SUBNET", "0.0.0.0/0"},
		{"FLANNEL_IPV6_SUBNET", "::/0"},
	} {
		gateway, present := values[family.subnet]
		if !present {
			continue
		}
		subnet, err := netip.ParsePrefix(gateway)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, []map[string]netip.Prefix{{"subnet": subnet.Masked()}})
		routes = append(routes, map[string]string{"dst": family.everything})
	}
	if len(ranges) == 0 {
		return nil, fmt.Errorf("%s names no subnet", Subnets)
	}
	return json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0",
		"name":       "cbr0",
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "mtu": json.Number(values["FLANNEL_MTU"]),
				"ipam": map[string]any{"type": "host-local", "ranges": ranges, "routes": routes},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}, "", "  ")
}
