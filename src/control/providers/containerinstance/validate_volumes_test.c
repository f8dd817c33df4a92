/* Volumes and mounts: every rule is a row, and so is every path, share, URL and key that a stranger
 * might try. */
#include "control/providers/containerinstance/validate_fixture.h"

#define VOL(volumes) G(C1, ",'volumes':[" volumes "]")
#define ONE(own) VOL("{'name':'v'," own "}")
#define SECRET(pairs) ONE("'secret':{" pairs "}")
#define GIT(members) ONE("'gitRepo':{" members "}")
#define URL(url) GIT("'repository':'" url "'")
#define SHARE(members) ONE("'azureFile':{" members "}")
#define MOUNT(mounts)                                                                              \
	G(C(",'volumeMounts':[" mounts "]"), ",'volumes':[{'name':'v','emptyDir':{}}]")
#define AT(path) MOUNT("{'name':'v','mountPath':'" path "'}")

static const struct refusal refusals[] = {
	/* names */
	{VOL("{'name':'A','emptyDir':{}}"), "InvalidVolumeName", "properties.volumes[0].name",
		"The volume name 'A' in container group 'g' is invalid. The volume name must contain no more "
		"than 63 characters and must match the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. 'my-name')."},
	{VOL("{'name':'','emptyDir':{}}"), "InvalidVolumeName", "properties.volumes[0].name",
		"The volume name '' in container group 'g' is invalid. The volume name must contain no more than "
		"63 characters and must match the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. 'my-name')."},
	{VOL("{'name':'-a','emptyDir':{}}"), "InvalidVolumeName", "properties.volumes[0].name",
		"The volume name '-a' in container group 'g' is invalid. The volume name must contain no more "
		"than 63 characters and must match the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. 'my-name')."},
	{VOL("{'name':'a-','emptyDir':{}}"), "InvalidVolumeName", "properties.volumes[0].name",
		"The volume name 'a-' in container group 'g' is invalid. The volume name must contain no more "
		"than 63 characters and must match the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. 'my-name')."},
	{VOL("{'name':'a_b','emptyDir':{}}"), "InvalidVolumeName", "properties.volumes[0].name",
		"The volume name 'a_b' in container group 'g' is invalid. The volume name must contain no more "
		"than 63 characters and must match the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. 'my-name')."},
	{VOL("{'name':'../a','emptyDir':{}}"), "InvalidVolumeName", "properties.volumes[0].name",
		"The volume name '../a' in container group 'g' is invalid. The volume name must contain no more "
		"than 63 characters and must match the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. 'my-name')."},
	{VOL("{'name':'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','emptyDir':{}}"),
		"InvalidVolumeName", "properties.volumes[0].name",
		"The volume name 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' in container "
		"group 'g' is invalid. The volume name must contain no more than 63 characters and must match "
		"the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. 'my-name')."},
	{VOL("{'name':'a--b','emptyDir':{}}"), "InvalidVolumeName", "properties.volumes[0].name",
		"The volume name 'a--b' in container group 'g' is invalid. It can't have two hyphens in a row."},
	{VOL("{'emptyDir':{}}"), "InvalidRequestContent", "properties.volumes[0].name",
		"The request content was invalid: the required property 'name' is missing."},
	{VOL("{'name':'v','emptyDir':{}},{'name':'v','emptyDir':{}}"), "DuplicateVolumeName",
		"properties.volumes[1].name",
		"The volume name 'v' is there more than once in container group 'g'. Each volume needs a name of "
		"its own."},
	/* kinds */
	{VOL("{'name':'v'}"), "InvalidVolume", "properties.volumes[0]",
		"The volume 'v' in container group 'g' has no kind. Each volume is exactly one of 'azureFile', "
		"'emptyDir', 'secret' and 'gitRepo'."},
	{VOL("{'name':'v','emptyDir':{},'secret':{'a':'YQ=='}}"), "InvalidVolume",
		"properties.volumes[0]",
		"The volume 'v' in container group 'g' has several kinds. Each volume is exactly one of "
		"'azureFile', 'emptyDir', 'secret' and 'gitRepo'."},
	{VOL("{'name':'v','hostPath':{}}"), "InvalidRequestContent",
		"properties.volumes[0].hostPath",
		"The request content was invalid: could not find member 'hostPath' on object of type 'Volume'."},
	{VOL("{'name':'v','emptyDir':{'sizeLimit':1}}"), "InvalidRequestContent",
		"properties.volumes[0].emptyDir.sizeLimit",
		"The request content was invalid: could not find member 'sizeLimit' on object of type "
		"'EmptyDirVolume'."},
	{VOL("{'name':'v','emptyDir':[]}"), "InvalidRequestContent",
		"properties.volumes[0].emptyDir",
		"The value '[]' of 'properties.volumes[0].emptyDir' is invalid. It must be an object."},
	{VOL("{'name':'v','secretReference':{'a':'b'}}"), "InvalidSecretReference",
		"properties.volumes[0].secretReference.a",
		"The secret reference 'b' in container group 'g' is not among its 'secretReferences'.",
		"2025-09-01"},
	{VOL("{'name':'v','secretReference':{'a':'b'}}"), "InvalidRequestContent",
		"properties.volumes[0].secretReference",
		"The property 'properties.volumes[0].secretReference' does not exist in api-version "
		"'2023-05-01'. It came with api-version '2024-10-01-preview'."},
	{VOL("{'name':'v','secret':{'a':'YQ=='}}"), "InvalidRequestContent",
		"properties.volumes[0].secret",
		"The property 'properties.volumes[0].secret' does not exist in api-version '2017-10-01-preview'. "
		"It came with api-version '2017-12-01-preview'.",
		"2017-10-01-preview"},
	{VOL("{'name':'v','gitRepo':{'repository':'https://git.example/a'}}"),
		"InvalidRequestContent", "properties.volumes[0].gitRepo",
		"The property 'properties.volumes[0].gitRepo' does not exist in api-version "
		"'2017-10-01-preview'. It came with api-version '2017-12-01-preview'.",
		"2017-10-01-preview"},
	{VOL("{'name':'v','emptyDir':{}}"), "InvalidRequestContent",
		"properties.volumes[0].emptyDir",
		"The property 'properties.volumes[0].emptyDir' does not exist in api-version "
		"'2017-08-01-preview'. It came with api-version '2017-10-01-preview'.",
		"2017-08-01-preview"},
	/* secret */
	{SECRET(""), "InvalidVolume", "properties.volumes[0].secret",
		"The secret volume 'v' in container group 'g' has no values. Give at least one; an answer "
		"doesn't show them, so what was read can only be sent back to the group that it came from."},
	{SECRET("'..':'YQ=='"), "InvalidVolume", "properties.volumes[0].secret",
		"The key '..' of the secret volume 'v' in container group 'g' is invalid. A key names a file: up "
		"to 253 letters, digits, '-', '_' and '.', not beginning with '..'."},
	{SECRET("'.':'YQ=='"), "InvalidVolume", "properties.volumes[0].secret",
		"The key '.' of the secret volume 'v' in container group 'g' is invalid. A key names a file: up "
		"to 253 letters, digits, '-', '_' and '.', not beginning with '..'."},
	{SECRET("'..data':'YQ=='"), "InvalidVolume", "properties.volumes[0].secret",
		"The key '..data' of the secret volume 'v' in container group 'g' is invalid. A key names a "
		"file: up to 253 letters, digits, '-', '_' and '.', not beginning with '..'."},
	{SECRET("'../x':'YQ=='"), "InvalidVolume", "properties.volumes[0].secret",
		"The key '../x' of the secret volume 'v' in container group 'g' is invalid. A key names a file: "
		"up to 253 letters, digits, '-', '_' and '.', not beginning with '..'."},
	{SECRET("'a/b':'YQ=='"), "InvalidVolume", "properties.volumes[0].secret",
		"The key 'a/b' of the secret volume 'v' in container group 'g' is invalid. A key names a file: "
		"up to 253 letters, digits, '-', '_' and '.', not beginning with '..'."},
	{SECRET("'':'YQ=='"), "InvalidVolume", "properties.volumes[0].secret",
		"The key '' of the secret volume 'v' in container group 'g' is invalid. A key names a file: up "
		"to 253 letters, digits, '-', '_' and '.', not beginning with '..'."},
	{SECRET("'a b':'YQ=='"), "InvalidVolume", "properties.volumes[0].secret",
		"The key 'a b' of the secret volume 'v' in container group 'g' is invalid. A key names a file: "
		"up to 253 letters, digits, '-', '_' and '.', not beginning with '..'."},
	{SECRET("'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk':'YQ=='"),
		"InvalidVolume", "properties.volumes[0].secret",
		"The key 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk' of "
		"the secret volume 'v' in container group 'g' is invalid. A key names a file: up to 253 letters, "
		"digits, '-', '_' and '.', not beginning with '..'."},
	{SECRET("'a':'hunter2!'"), "InvalidVolume", "properties.volumes[0].secret.a",
		"The value of the key 'a' of the secret volume 'v' in container group 'g' is not valid base64. "
		"Encode it with the standard alphabet and padding, in one line."},
	{SECRET("'a':'YQ'"), "InvalidVolume", "properties.volumes[0].secret.a",
		"The value of the key 'a' of the secret volume 'v' in container group 'g' is not valid base64. "
		"Encode it with the standard alphabet and padding, in one line."},
	{SECRET("'a':'YQ=\\n='"), "InvalidVolume", "properties.volumes[0].secret.a",
		"The value of the key 'a' of the secret volume 'v' in container group 'g' is not valid base64. "
		"Encode it with the standard alphabet and padding, in one line."},
	{SECRET("'a':'YWI-'"), "InvalidVolume", "properties.volumes[0].secret.a",
		"The value of the key 'a' of the secret volume 'v' in container group 'g' is not valid base64. "
		"Encode it with the standard alphabet and padding, in one line."},
	{SECRET("'a':{'b':'hunter2'}"), "InvalidRequestContent", "properties.volumes[0].secret.a",
		"The value '<secret>' of 'properties.volumes[0].secret.a' is invalid. It must be a string."},
	/* gitRepo */
	{GIT("'directory':'d'"), "InvalidRequestContent",
		"properties.volumes[0].gitRepo.repository",
		"The request content was invalid: the required property 'repository' is missing."},
	{URL("http://git.example/a.git"), "InvalidVolume",
		"properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("git://git.example/a.git"), "InvalidVolume",
		"properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("file:///var/lib/berth"), "InvalidVolume", "properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("ext::sh -c id"), "InvalidVolume", "properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("--upload-pack=id"), "InvalidVolume", "properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("git@git.example:a/b.git"), "InvalidVolume",
		"properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("https://user:p@ss@git.example/a.git"), "InvalidVolume",
		"properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("https://@git.example/a.git"), "InvalidVolume",
		"properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("https://user:token@/a.git"), "InvalidVolume",
		"properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{GIT("'repository':{'hunter2':'x'}"), "InvalidRequestContent",
		"properties.volumes[0].gitRepo.repository",
		"The value '<secret>' of 'properties.volumes[0].gitRepo.repository' is invalid. It must be a string."},
	{URL("https:///a.git"), "InvalidVolume", "properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("https://-oProxy/a.git"), "InvalidVolume", "properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("https://git.example/a b"), "InvalidVolume",
		"properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL("https://git.example/a\\nb"), "InvalidVolume",
		"properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{URL(""), "InvalidVolume", "properties.volumes[0].gitRepo.repository",
		"The repository of the gitRepo volume 'v' in container group 'g' is invalid. It must be an "
		"https:// URL such as 'https://git.example/project.git' or "
		"'https://user:token@git.example/project.git'."},
	{GIT("'repository':'https://g/a','revision':'--foo'"), "InvalidVolume",
		"properties.volumes[0].gitRepo.revision",
		"The revision '--foo' of the gitRepo volume 'v' in container group 'g' is invalid. It must be a "
		"branch, a tag or a commit: up to 255 letters, digits, '.', '_', '/' and '-', not beginning with "
		"'-'."},
	{GIT("'repository':'https://g/a','revision':''"), "InvalidVolume",
		"properties.volumes[0].gitRepo.revision",
		"The revision '' of the gitRepo volume 'v' in container group 'g' is invalid. It must be a "
		"branch, a tag or a commit: up to 255 letters, digits, '.', '_', '/' and '-', not beginning with "
		"'-'."},
	{GIT("'repository':'https://g/a','revision':'a b'"), "InvalidVolume",
		"properties.volumes[0].gitRepo.revision",
		"The revision 'a b' of the gitRepo volume 'v' in container group 'g' is invalid. It must be a "
		"branch, a tag or a commit: up to 255 letters, digits, '.', '_', '/' and '-', not beginning with "
		"'-'."},
	{GIT("'repository':'https://g/a','revision':'HEAD@{1}'"), "InvalidVolume",
		"properties.volumes[0].gitRepo.revision",
		"The revision 'HEAD@{1}' of the gitRepo volume 'v' in container group 'g' is invalid. It must be "
		"a branch, a tag or a commit: up to 255 letters, digits, '.', '_', '/' and '-', not beginning "
		"with '-'."},
	{GIT("'repository':'https://g/a','revision':'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"),
		"InvalidVolume", "properties.volumes[0].gitRepo.revision",
		"The revision 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' "
		"of the gitRepo volume 'v' in container group 'g' is invalid. It must be a branch, a tag or a "
		"commit: up to 255 letters, digits, '.', '_', '/' and '-', not beginning with '-'."},
	{GIT("'repository':'https://g/a','directory':'../x'"), "InvalidVolume",
		"properties.volumes[0].gitRepo.directory",
		"The directory '../x' of the gitRepo volume 'v' in container group 'g' is invalid. It must be a "
		"relative path without '..', or '.' for the volume itself."},
	{GIT("'repository':'https://g/a','directory':'a/../../x'"), "InvalidVolume",
		"properties.volumes[0].gitRepo.directory",
		"The directory 'a/../../x' of the gitRepo volume 'v' in container group 'g' is invalid. It must "
		"be a relative path without '..', or '.' for the volume itself."},
	{GIT("'repository':'https://g/a','directory':'/etc'"), "InvalidVolume",
		"properties.volumes[0].gitRepo.directory",
		"The directory '/etc' of the gitRepo volume 'v' in container group 'g' is invalid. It must be a "
		"relative path without '..', or '.' for the volume itself."},
	{GIT("'repository':'https://g/a','directory':''"), "InvalidVolume",
		"properties.volumes[0].gitRepo.directory",
		"The directory '' of the gitRepo volume 'v' in container group 'g' is invalid. It must be a "
		"relative path without '..', or '.' for the volume itself."},
	{GIT("'repository':'https://g/a','directory':'a\\nb'"), "InvalidVolume",
		"properties.volumes[0].gitRepo.directory",
		"The directory 'a\nb' of the gitRepo volume 'v' in container group 'g' is invalid. It must be a "
		"relative path without '..', or '.' for the volume itself."},
	/* azureFile */
	{SHARE("'storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidRequestContent", "properties.volumes[0].azureFile.shareName",
		"The request content was invalid: the required property 'shareName' is missing."},
	{SHARE("'shareName':'share','storageAccountKey':'a2V5'"), "InvalidRequestContent",
		"properties.volumes[0].azureFile.storageAccountName",
		"The request content was invalid: the required property 'storageAccountName' is missing."},
	{SHARE("'shareName':'share','storageAccountName':'account'"), "InvalidVolume",
		"properties.volumes[0].azureFile.storageAccountKey",
		"The Azure file volume 'v' in container group 'g' has no 'storageAccountKey'. It is required; an "
		"update of the group may leave it out while the storage account stays the same."},
	{SHARE("'shareName':'ab','storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.shareName",
		"The share name 'ab' of the Azure file volume 'v' in container group 'g' is invalid. It must be "
		"3 to 63 lowercase letters, numbers and single hyphens, and begin and end with a letter or "
		"number."},
	{SHARE("'shareName':'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.shareName",
		"The share name 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' of the Azure "
		"file volume 'v' in container group 'g' is invalid. It must be 3 to 63 lowercase letters, "
		"numbers and single hyphens, and begin and end with a letter or number."},
	{SHARE("'shareName':'Share','storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.shareName",
		"The share name 'Share' of the Azure file volume 'v' in container group 'g' is invalid. It must "
		"be 3 to 63 lowercase letters, numbers and single hyphens, and begin and end with a letter or "
		"number."},
	{SHARE("'shareName':'-abc','storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.shareName",
		"The share name '-abc' of the Azure file volume 'v' in container group 'g' is invalid. It must "
		"be 3 to 63 lowercase letters, numbers and single hyphens, and begin and end with a letter or "
		"number."},
	{SHARE("'shareName':'abc-','storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.shareName",
		"The share name 'abc-' of the Azure file volume 'v' in container group 'g' is invalid. It must "
		"be 3 to 63 lowercase letters, numbers and single hyphens, and begin and end with a letter or "
		"number."},
	{SHARE("'shareName':'a--b','storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.shareName",
		"The share name 'a--b' of the Azure file volume 'v' in container group 'g' is invalid. It must "
		"be 3 to 63 lowercase letters, numbers and single hyphens, and begin and end with a letter or "
		"number."},
	{SHARE("'shareName':'a,uid=0','storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.shareName",
		"The share name 'a,uid=0' of the Azure file volume 'v' in container group 'g' is invalid. It "
		"must be 3 to 63 lowercase letters, numbers and single hyphens, and begin and end with a letter "
		"or number."},
	{SHARE("'shareName':'..\\\\c$','storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.shareName",
		"The share name '..\\c$' of the Azure file volume 'v' in container group 'g' is invalid. It must "
		"be 3 to 63 lowercase letters, numbers and single hyphens, and begin and end with a letter or "
		"number."},
	{SHARE("'shareName':'a/b','storageAccountName':'account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.shareName",
		"The share name 'a/b' of the Azure file volume 'v' in container group 'g' is invalid. It must be "
		"3 to 63 lowercase letters, numbers and single hyphens, and begin and end with a letter or "
		"number."},
	{SHARE("'shareName':'share','storageAccountName':'ab','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountName",
		"The storage account name 'ab' of the Azure file volume 'v' in container group 'g' is invalid. "
		"It must be 3 to 24 lowercase letters and numbers."},
	{SHARE("'shareName':'share','storageAccountName':'aaaaaaaaaaaaaaaaaaaaaaaaa','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountName",
		"The storage account name 'aaaaaaaaaaaaaaaaaaaaaaaaa' of the Azure file volume 'v' in container "
		"group 'g' is invalid. It must be 3 to 24 lowercase letters and numbers."},
	{SHARE("'shareName':'share','storageAccountName':'Account','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountName",
		"The storage account name 'Account' of the Azure file volume 'v' in container group 'g' is "
		"invalid. It must be 3 to 24 lowercase letters and numbers."},
	{SHARE("'shareName':'share','storageAccountName':'host.example','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountName",
		"The storage account name 'host.example' of the Azure file volume 'v' in container group 'g' is "
		"invalid. It must be 3 to 24 lowercase letters and numbers."},
	{SHARE("'shareName':'share','storageAccountName':'a,b','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountName",
		"The storage account name 'a,b' of the Azure file volume 'v' in container group 'g' is invalid. "
		"It must be 3 to 24 lowercase letters and numbers."},
	{SHARE("'shareName':'share','storageAccountName':'10.0.0.1@80','storageAccountKey':'a2V5'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountName",
		"The storage account name '10.0.0.1@80' of the Azure file volume 'v' in container group 'g' is "
		"invalid. It must be 3 to 24 lowercase letters and numbers."},
	{SHARE("'shareName':'share','storageAccountName':'account','storageAccountKey':''"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountKey",
		"The storage account key of the Azure file volume 'v' in container group 'g' is not valid "
		"base64 of at most 255 characters. Give the key as the storage account shows it, without line breaks."},
	{SHARE("'shareName':'share','storageAccountName':'account','storageAccountKey':'a2V5,exec'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountKey",
		"The storage account key of the Azure file volume 'v' in container group 'g' is not valid "
		"base64 of at most 255 characters. Give the key as the storage account shows it, without line breaks."},
	{SHARE("'shareName':'share','storageAccountName':'account','storageAccountKey':'a2V5\\n'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountKey",
		"The storage account key of the Azure file volume 'v' in container group 'g' is not valid "
		"base64 of at most 255 characters. Give the key as the storage account shows it, without line breaks."},
	{SHARE("'shareName':'share','storageAccountName':'account','storageAccountKey':'a2V'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountKey",
		"The storage account key of the Azure file volume 'v' in container group 'g' is not valid "
		"base64 of at most 255 characters. Give the key as the storage account shows it, without line breaks."},
	{SHARE("'shareName':'share','storageAccountName':'account','storageAccountKey':'key with blanks'"),
		"InvalidVolume", "properties.volumes[0].azureFile.storageAccountKey",
		"The storage account key of the Azure file volume 'v' in container group 'g' is not valid "
		"base64 of at most 255 characters. Give the key as the storage account shows it, without line breaks."},
	{SHARE("'shareName':'share','storageAccountName':'account','storageAccountKey':'a2V5','storageAccountKeyReference':'r'"),
		"InvalidSecretReference",
		"properties.volumes[0].azureFile.storageAccountKeyReference",
		"The secret reference 'r' in container group 'g' is not among its 'secretReferences'.",
		"2025-09-01"},
	{SHARE("'shareName':'share','storageAccountName':'account','storageAccountKey':'a2V5','userAssignedIdentityClientId':'r'"),
		"PropertyNotSupported",
		"properties.volumes[0].azureFile.userAssignedIdentityClientId",
		"The property 'properties.volumes[0].azureFile.userAssignedIdentityClientId' is not supported by "
		"this version of Berth. Give 'storageAccountKey': groups have no identity.",
		"2026-07-01"},
	{SHARE("'shareName':'share','storageAccountName':'account','storageAccountKey':'a2V5','readOnly':'maybe'"),
		"InvalidRequestContent", "properties.volumes[0].azureFile.readOnly",
		"The value 'maybe' of 'properties.volumes[0].azureFile.readOnly' is invalid. It must be true or "
		"false."},
	/* mounts */
	{MOUNT("{'name':'w','mountPath':'/m'}"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].name",
		"The volume 'w' that container 'c' of container group 'g' mounts is not among the group's "
		"'volumes'."},
	{MOUNT("{'mountPath':'/m'}"), "InvalidRequestContent",
		"properties.containers[0].properties.volumeMounts[0].name",
		"The request content was invalid: the required property 'name' is missing."},
	{MOUNT("{'name':'v'}"), "InvalidRequestContent",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The request content was invalid: the required property 'mountPath' is missing."},
	{MOUNT("{'name':'v','mountPath':'/m'},{'name':'v','mountPath':'//m/.'}"),
		"InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[1].mountPath",
		"The mount path '//m/.' is there more than once in container 'c' of container group 'g'. Mount "
		"one volume at each path."},
	{MOUNT("{'name':'v','mountPath':'/m','subPath':'x'}"), "InvalidRequestContent",
		"properties.containers[0].properties.volumeMounts[0].subPath",
		"The request content was invalid: could not find member 'subPath' on object of type "
		"'VolumeMount'."},
	{AT(""), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '' in container 'c' of container group 'g' is invalid. It must be an absolute "
		"path of at most 1024 bytes without ':', '..' and control characters."},
	{AT("m"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path 'm' in container 'c' of container group 'g' is invalid. It must be an absolute "
		"path of at most 1024 bytes without ':', '..' and control characters."},
	{AT("/a:b"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/a:b' in container 'c' of container group 'g' is invalid. It must be an "
		"absolute path of at most 1024 bytes without ':', '..' and control characters."},
	{AT("/a/../b"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/a/../b' in container 'c' of container group 'g' is invalid. It must be an "
		"absolute path of at most 1024 bytes without ':', '..' and control characters."},
	{AT("/.."), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/..' in container 'c' of container group 'g' is invalid. It must be an absolute "
		"path of at most 1024 bytes without ':', '..' and control characters."},
	{AT("/a\\u0007"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/a\007' in container 'c' of container group 'g' is invalid. It must be an "
		"absolute path of at most 1024 bytes without ':', '..' and control characters."},
	{AT("/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
		"InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path "
		"'/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' "
		"in container 'c' of container group 'g' is invalid. It must be an absolute path of at most 1024 "
		"bytes without ':', '..' and control characters."},
	{AT("/"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/' in container 'c' of container group 'g' is invalid. A volume can't be "
		"mounted there: the image is there."},
	{AT("//"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '//' in container 'c' of container group 'g' is invalid. A volume can't be "
		"mounted there: the image is there."},
	{AT("/./"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/./' in container 'c' of container group 'g' is invalid. A volume can't be "
		"mounted there: the image is there."},
	{AT("/proc"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/proc' in container 'c' of container group 'g' is invalid. A volume can't be "
		"mounted there: the system's own files are there."},
	{AT("/proc/sys"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/proc/sys' in container 'c' of container group 'g' is invalid. A volume can't "
		"be mounted there: the system's own files are there."},
	{AT("/sys/fs"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/sys/fs' in container 'c' of container group 'g' is invalid. A volume can't be "
		"mounted there: the system's own files are there."},
	{AT("/dev"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/dev' in container 'c' of container group 'g' is invalid. A volume can't be "
		"mounted there: the container's devices are there."},
	{AT("/dev/shm"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/dev/shm' in container 'c' of container group 'g' is invalid. A volume can't be "
		"mounted there: the container's devices are there."},
	{AT("/etc/hosts"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/etc/hosts' in container 'c' of container group 'g' is invalid. A volume can't "
		"be mounted there: the group's own names are there."},
	{AT("/etc//hostname"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/etc//hostname' in container 'c' of container group 'g' is invalid. A volume "
		"can't be mounted there: the group's own name is there."},
	{AT("/etc/resolv.conf/"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/etc/resolv.conf/' in container 'c' of container group 'g' is invalid. A volume "
		"can't be mounted there: the group's name servers are there; use 'dnsConfig'."},
	{AT("/mnt/configmap/c"), "InvalidVolumeMount",
		"properties.containers[0].properties.volumeMounts[0].mountPath",
		"The mount path '/mnt/configmap/c' in container 'c' of container group 'g' is invalid. A volume "
		"can't be mounted there: config maps are there."},
};

static void refuses_with_code_target_and_message(void **state)
{
	fixture_refuses(refusals, ARRAY_SIZE(refusals));
}

static void counts_volumes_and_mounts(void **state)
{
	struct validate_context context = fixture_context(NULL);
	struct err err = {0};

	for (int n = 20; n <= 21; n++) {
		_cleanup_json_ json_t *document = fixture_parse(VOL(""));
		json_t *volumes = json_path(document, "properties", "volumes", NULL);

		for (int i = 0; i < n; i++) {
			_cleanup_free_ char *text = xasprintf("{'name':'v%d','emptyDir':{}}", i);

			json_array_append_new(volumes, fixture_parse(text));
		}
		assert_int_equal(group_validate(document, &context, &err), n == 20 ? 0 : -EINVAL);
	}
	assert_string_equal(err.code, "TooManyVolumes");
	assert_string_equal(err.target, "properties.volumes");
	assert_string_equal(
		err.message, "The container group 'g' has 21 volumes. At most 20 are allowed.");
}

/* 1 MiB of a secret's values together, decoded. */
static void bounds_the_size_of_secrets(void **state)
{
	static const struct {
		size_t a, b;
		int r;
	} cases[] = {{1 << 20, 0, 0}, {1 << 19, 1 << 19, 0}, {(1 << 20) + 1, 0, -EINVAL},
		{1 << 19, (1 << 19) + 1, -EINVAL}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct validate_context context = fixture_context(NULL);
		_cleanup_free_ char *zeros = xcalloc((1 << 20) + 1, 1);
		_cleanup_free_ char *a = str_base64(zeros, cases[i].a);
		_cleanup_free_ char *b = str_base64(zeros, cases[i].b);
		_cleanup_json_ json_t *document = fixture_parse(SECRET(""));
		json_t *volume =
			json_array_get(json_path(document, "properties", "volumes", NULL), 0);
		struct err err = {0};

		json_object_set_new(volume, "secret", json_pack("{s:s, s:s}", "a", a, "b", b));
		assert_int_equal(group_validate(document, &context, &err), cases[i].r);
		if (cases[i].r == 0)
			continue;
		assert_string_equal(err.code, "InvalidVolume");
		assert_string_equal(err.target, "properties.volumes[0].secret");
		assert_string_equal(err.message,
			"The values of the secret volume 'v' in container group 'g' have 1048577 bytes together. At "
			"most 1048576 are allowed.");
	}
}

#define KEEPS(in, out)                                                                                      \
	fixture_accepts(G(C1, ",'volumes':[" in "]"), NULL,                                                 \
		"{'properties':{'sku':'Standard','containers':[{'name':'c','properties':{'image':'alpine'," \
		"'environmentVariables':[],'resources':{'requests':{'memoryInGB':1.5,'cpu':1.0}}}}],"       \
		"'restartPolicy':'Always','osType':'Linux','volumes':[" out                                 \
		"]},'location':'local','tags':{}}")

/* The node has room for no more. */
static void an_account_key_has_a_bound(void **state)
{
	for (int n = 252; n <= 256; n += 4) {
		_cleanup_free_ char *text = xasprintf(
			SHARE("'shareName':'share','storageAccountName':'account','storageAccountKey':'%0*d'"),
			n, 0);
		struct validate_context context = fixture_context(FIXTURE_VERSION);
		_cleanup_json_ json_t *document = fixture_parse(text);
		struct err err = {0};

		assert_int_equal(group_validate(document, &context, &err), n <= 255 ? 0 : -EINVAL);
	}
}

static void keeps_volumes_as_they_are_sent(void **state)
{
	KEEPS("{'name':'a','emptyDir':{}},{'EmptyDir':{},'name':'b','secret':null}",
		"{'name':'a','emptyDir':{}},{'name':'b','emptyDir':{}}");
	KEEPS("{'name':'v','secret':{'..':null,'a.b-C_1':'','x':'eHl6'}}",
		"{'name':'v','secret':{'a.b-C_1':'','x':'eHl6'}}");
	KEEPS("{'name':'v','gitRepo':{'repository':'https://git.example:8443/a/b.git'}}",
		"{'name':'v','gitRepo':{'repository':'https://git.example:8443/a/b.git'}}");
	KEEPS("{'name':'v','gitRepo':{'repository':'HTTPS://[::1]/a','revision':'feature/x_1.0','directory':'.'}}",
		"{'name':'v','gitRepo':{'directory':'.','repository':'HTTPS://[::1]/a','revision':'feature/x_1.0'}}");
	KEEPS("{'name':'v','azureFile':{'storageAccountKey':'a2V5','storageAccountName':'acct1','shareName':'a-1'}}",
		"{'name':'v','azureFile':{'shareName':'a-1','storageAccountName':'acct1','storageAccountKey':'a2V5'}}");
	KEEPS("{'name':'v','azureFile':{'shareName':'abc','readOnly':'True','storageAccountName':'abc',"
	      "'storageAccountKey':'a2V5'}}",
		"{'name':'v','azureFile':{'shareName':'abc','readOnly':true,'storageAccountName':'abc',"
		"'storageAccountKey':'a2V5'}}");
}

static void mount_paths_have_a_shortest_form(void **state)
{
	static const char *const cases[][2] = {{"/a", "/a"}, {"//a//b/", "/a/b"}, {"/./a/./", "/a"},
		{"/", "/"}, {"/a/...", "/a/..."}, {"/mnt/config map", "/mnt/config map"}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *path = mount_path(cases[i][0]);

		assert_string_equal(path, cases[i][1]);
	}
	assert_null(mount_path("a/b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_with_code_target_and_message),
		cmocka_unit_test(counts_volumes_and_mounts),
		cmocka_unit_test(bounds_the_size_of_secrets),
		cmocka_unit_test(keeps_volumes_as_they_are_sent),
		cmocka_unit_test(an_account_key_has_a_bound),
		cmocka_unit_test(mount_paths_have_a_shortest_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
