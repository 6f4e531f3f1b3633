import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One node of OpenSearch: FOLDER ADDRESS HTTP-PORT TRANSPORT-PORT. The runner's own program listens on ports of its own choice. */
public class OpenSearch {
    public static void main(String[] arguments) throws Exception {
        var runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("network.host", arguments[1]);
            settings.put("http.port", arguments[2]);
            settings.put("transport.port", arguments[3]);
            settings.put("discovery.type", "single-node");
            settings.put("action.auto_create_index", false);
            // Of a disk that others fill, an index would be closed to writes.
            settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
            settings.put("node.store.allow_mmap", false);
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                runner.close();
            } catch (Exception error) {
                System.err.println(error);
            }
        }));
        runner.build("-basePath", arguments[0], "-numOfNode", "1", "-clusterName", "posthouse");
        Thread.currentThread().join();
    }
}
