package kube

import (
	"strings"
	"testing"
)

func TestAmount(t *testing.T) {
	for _, c := range []struct{ name, quantity, want string }{
		{QuotaPods, "20", "20"},
		{QuotaPods, "2k", "2000"},
		{QuotaPods, "0", "0"},
		{QuotaPods, "1.5", "1.5 is no whole number"},
		{QuotaPods, "500m", "500m is no whole number"},
		{QuotaPods, "-1", "-1 is negative"},
		{QuotaPods, "", `"" is no quantity; expected one like 4, 500m or 2Gi`},
		{QuotaServices, "two", `"two" is no quantity; expected one like 4, 500m or 2Gi`},
		{QuotaRequestsCPU, "2", "2"},
		{QuotaRequestsCPU, "1.5", "1500m"},
		{QuotaLimitsCPU, "0.0001", "1m"}, // rounded up
		{QuotaLimitsCPU, "1E", "1125899906842624m"},
		{QuotaRequestsMemory, "2Gi", "2Gi"},
		{QuotaRequestsMemory, "1536Mi", "1536Mi"},
		{QuotaRequestsMemory, "1e3", "1k"},
		{QuotaLimitsMemory, "9E", "1Pi"},
		{QuotaLimitsMemory, "1e-99999999", absurdText},
		{QuotaLimitsMemory, strings.Repeat("1", 70), absurdText},
		{"gpus", "1", "no quota is kept of it; expected one of count/cronjobs.batch, count/deployments.apps, count/jobs.batch, limits.cpu, limits.memory, pods, requests.cpu, requests.memory, services, services.nodeports"},
	} {
		n, err := Amount(c.name, c.quantity)
		got := AmountText(c.name, n)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %q: %s, want %s", c.name, c.quantity, got, c.want)
		}
	}
}

// FuzzAmount: whatever stands in shoal.cue is refused or a number that sums of many do not overflow, and reads back as written.
func FuzzAmount(f *testing.F) {
	for _, s := range []string{"1", "500m", "2Gi", "1e3", "-1", "1e-99", "0.1n", "9E", "+1", ".5", "1.", "\x00"} {
		f.Add(0, s)
		f.Add(6, s)
	}
	f.Fuzz(func(t *testing.T, i int, s string) {
		name := quotaResources[uint(i)%uint(len(quotaResources))]
		n, err := Amount(name, s)
		if err != nil {
			return
		}
		if n < 0 || n > maxAmount {
			t.Fatalf("%s %q is %d", name, s, n)
		}
		if again, err := Amount(name, AmountText(name, n)); err != nil || again != n {
			t.Errorf("%s %q is %d, written %s, read as %d, %v", name, s, n, AmountText(name, n), again, err)
		}
	})
}

func TestCheckNodes(t *testing.T) {
	many := map[string]string{}
	for k := range strings.SplitSeq("abcdefghijklmnopq", "") {
		many[k] = ""
	}
	for _, c := range []struct {
		labels map[string]string
		want   string
	}{
		{nil, ""},
		{map[string]string{"pool": "blue", "shop.example/disk": "", "kubernetes.io/arch": "arm64"}, ""},
		{map[string]string{"": "x"}, "is no key of a label"},
		{map[string]string{"UPPER/x": "x"}, "UPPER/x: is no key of a label"},
		{map[string]string{"a": strings.Repeat("x", 64)}, "a: \"" + strings.Repeat("x", 64) + "\" is no value of a label"},
		{map[string]string{"a": strings.Repeat("x", 1000)}, "a: \"" + strings.Repeat("x", 64) + "...\" is no value of a label"},
		{many, "has 17 labels; at most 16"},
	} {
		faults := CheckNodes(c.labels)
		if c.want == "" && len(faults) != 0 || c.want != "" && (len(faults) != 1 || !strings.HasPrefix(faults[0].String(), c.want)) {
			t.Errorf("%v: %v, want %s", c.labels, faults, c.want)
		}
	}
}
